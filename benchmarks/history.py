"""Fill a project's tracking store with real runs:  python history.py PROJECT RUNS"""

import logging
import os
import sys
from pathlib import Path

from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

project = Path(sys.argv[1]).resolve()
os.chdir(project)
bootstrap_project(project)
for _ in range(int(sys.argv[2])):
    with KedroSession.create(project) as session:
        logging.disable(logging.INFO)
        session.run()
