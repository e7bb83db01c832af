"""Evidence: dossiers of single payments, their offline verification, and replay of whole chains."""
