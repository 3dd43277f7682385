"""What fills the gateway's sockets, and the only home of its drivers."""
