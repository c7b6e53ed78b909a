"""How good the classifier is: sets with known answers, and the scores on them. `python -m classifiers.evaluation` prints all."""
