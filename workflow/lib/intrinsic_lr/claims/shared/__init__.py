"""What the tests of several claims share."""
