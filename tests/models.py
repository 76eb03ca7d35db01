"""The models that tests name. Nobody is asked: a local server answers for them."""

MODEL = "claude-sonnet-5"
OTHER_MODEL = "claude-opus-5"
TIERED_MODEL = "claude-sonnet-4-5"  # dearer above 200,000 tokens
