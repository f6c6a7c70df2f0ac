"""Generated messages of the area deployer."""
