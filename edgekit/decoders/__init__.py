"""The build of a language model: its settings, the texts it is measured on, and the flow."""
