"""Has the wheel hold the experiments as `jaxrnn.experiments`: at the top of other people's
site-packages their name here would be in the way."""

from setuptools import find_namespace_packages, find_packages, setup

experiments = find_namespace_packages(include=["experiments", "experiments.*"])

setup(
    packages=[
        *find_packages(include=["jaxrnn", "jaxrnn.*"]),
        *(f"jaxrnn.{name}" for name in experiments if "speed" not in name),
    ],
    package_dir={"jaxrnn.experiments": "experiments"},
)
