"""What the tests of composition share: drafts of every kind, the rules, foreign readers."""
