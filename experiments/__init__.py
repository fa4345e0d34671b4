"""What recurrent cores are for, one folder a task, each a command."""

from jaxrnn.extras import require

require("tyro", "experiments")
