"""The command ``et``: each module is one command, imported when it is called. Parses, prints, and calls the API."""
