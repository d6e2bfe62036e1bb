"Figures and sliders over any method; `from layerbench.explore import explore`"


def __getattr__(name):
    "`explore` is fetched when it is asked for: a training that only wants figures needs no widgets"
    if name != "explore": raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .panel import explore
    return explore
