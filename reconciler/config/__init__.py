"""What an operator may set: `schema` says what there is (pure), `load` reads it from YAML."""
