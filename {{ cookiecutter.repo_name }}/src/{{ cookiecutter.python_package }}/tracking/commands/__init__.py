"""Commands of ``kedro`` that read and repeat recorded runs; this folder may be deleted.

``cli.py`` of the project adds them. The modules, from the bottom up; each imports only
from those before it:

- ``project_runs``, ``formats``: find, describe and compare runs; what is printed
- ``runs``: ``kedro runs`` and ``kedro runs diff``
- ``counts``, ``record``, ``archive``, ``export``: how much a run holds; into a store;
  a file; out of a store
- ``share``: ``kedro share`` and ``kedro receive``
- ``checkout``, ``reproduce``, ``replay``: ``kedro replay``
"""

from . import replay, runs, share

COMMANDS = (runs.runs, replay.replay, share.share, share.receive)
