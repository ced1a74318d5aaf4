"""What is behind scripts/torture. sources makes and changes what is backed up, program starts and kills treering,
operations says what can be done, truth knows what must be in the repository, and __main__ plays the rounds."""
