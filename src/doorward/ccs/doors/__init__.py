"""What people and programs come in by. Doors call the journey; they never meet the engines."""
