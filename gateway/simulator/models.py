"""The models on sale: what they accept and what they cost, by name.

A new model is a new row of ``gpt_models.py`` or ``more_models.py``. ``MODELS`` holds the stricter
or newer rules where documents differ, and ``OTHER_MODELS`` the other ones (protocols/evolink.md
§14); a prompt can ask for those.
"""

from gateway.simulator.gpt_models import GPT_MODELS, OTHER_GPT_MODELS
from gateway.simulator.more_models import MORE_MODELS, OTHER_MORE_MODELS

MODELS = {row.name: row for row in (*GPT_MODELS, *MORE_MODELS)}
OTHER_MODELS = MODELS | {row.name: row for row in (*OTHER_GPT_MODELS, *OTHER_MORE_MODELS)}
