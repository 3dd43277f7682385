"""What stands in for the world: homes with equipment, territories of gateways, throw-away servers."""
