"""The same search with scikit-learn alone: python search.py IRIS LIST_OF_C."""

import json
import sys

import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

flowers = pd.read_csv(sys.argv[1])
train, _ = train_test_split(
    flowers, test_size=0.2, random_state=42, stratify=flowers["species"]
)
grid = {
    "logisticregression__C": json.loads(sys.argv[2]),
    "logisticregression__fit_intercept": [True, False],
}
model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
search = GridSearchCV(model, grid, scoring="accuracy", cv=5, n_jobs=1)
search.fit(train.drop(columns="species"), train["species"])
print(len(search.cv_results_["params"]), search.best_params_)
