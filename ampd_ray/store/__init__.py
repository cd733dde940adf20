"""Where files live, a directory or an object store: ``layout`` names them (pure), ``files`` keeps them."""
