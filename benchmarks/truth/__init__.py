"""The two corpora on which gradient checkers are judged, written before any checker.

`wrong.WRONG` holds wrong backwards, each labelled with the cause a good report would name;
`correct.CORRECT` holds correct functions at points where checkers raise false alarms. Both are
pure NumPy, so that every checker can be run on the very same thing. `tests/test_truth_cases.py`
proves that the wrong ones are wrong and the correct ones correct.
"""
