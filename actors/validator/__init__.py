"""The Validator's room: reads every line of a claimed file and says whether it is fit to train."""
