"""What tests stand on: real servers, and waiting without sleeping."""
