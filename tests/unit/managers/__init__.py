"""Tests of the lifecycle managers."""
