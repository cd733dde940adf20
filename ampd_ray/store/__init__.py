"""Where files live: ``layout`` names them (pure), ``files`` keeps them. Local directories; object stores come later."""
