"""SCAM-FQI: fitted Q iteration along an information-sharing graph."""
