"""The speedrun: a network, the recipe that trains it in the fewest seconds, and its race against others."""
