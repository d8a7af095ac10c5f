"""What reviews add to a turn: verdicts and guidance that are stored, and facts about results of earlier turns."""
