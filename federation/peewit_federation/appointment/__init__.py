"""An appointment, from the request to the confirmation (design 4.6): what travels, sealed or signed, and its bounds."""
