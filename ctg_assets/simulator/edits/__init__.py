"""What sponsors and the registry change about a study, one module for each part of a study that they change."""
