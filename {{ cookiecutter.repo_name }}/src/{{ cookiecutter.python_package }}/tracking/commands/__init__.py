"""Commands of ``kedro`` that read and repeat recorded runs; this folder may be deleted.

``cli.py`` of the project adds them.
"""

from . import replay, runs, share

COMMANDS = (runs.runs, replay.replay, share.share, share.receive)
