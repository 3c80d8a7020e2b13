"""The fast lane; without this package every request takes the plain lane."""
