"""The one exception that means "the user can mend this"; `ltjax.main` prints it as one line."""


class UserError(ValueError):
    """A value from outside that cannot be used: the message names it, what would work, and where.

    Everything else that is raised is a bug of ours and keeps its traceback.
    """
