"""Using a trained network: load a run, predict, export one task."""

from polytask.deploy.model import Model as Model
from polytask.deploy.model import load as load
