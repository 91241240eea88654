"""FedMORL: federated world models, and policies learned in them."""
