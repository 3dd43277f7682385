"""The third parties' API. Read app.py first: what is hot goes straight to requests.py, the rest to FastAPI."""
