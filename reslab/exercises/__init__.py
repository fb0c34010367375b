"""Exercises that grade themselves: two sheets in Markdown, their graders and solutions, and what runs a
learner's code.
"""
