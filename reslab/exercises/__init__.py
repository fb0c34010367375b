"""Self-grading exercises: two sheets in Markdown, their graders and solutions, and the confinement of learners'
code.
"""
