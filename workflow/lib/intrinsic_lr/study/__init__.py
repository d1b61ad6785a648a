"""What the config asks for: experiments, points, schedules, claims. Imports no torch."""
