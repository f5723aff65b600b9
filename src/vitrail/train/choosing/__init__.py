"""Zero configuration: settings chosen from facts about the text."""
