"""The sections of generated studies, one module for each part that the registry shows by itself."""
