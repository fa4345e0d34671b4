"""What recurrent cores are for, one folder a task, each a command.

In a checkout this package is `experiments`, in an installed jaxrnn it is
`jaxrnn.experiments`: so its modules import one another by names relative to their own.
"""
