"""A Kedro starter with MLflow, and its library ``tracking`` for any Kedro project.

``tracking`` holds the files of the template; the build copies them into the wheel.
"""
