"""The web site where customers, representatives, operators and developers work. Read ``app.py`` first.

A page group is a file in ``pages/``: its handlers, and the list of its pages with the act that each needs.
``visit.py`` is one call as pages see it, ``rendering.py`` how it becomes HTML, ``security.py`` what every
answer carries. docs/portal.md says how to add a page.
"""
