"""The only importers of ``ray``: plain classes become actors here, and Ray's failures become our errors."""
