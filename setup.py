"""Metadata lives in pyproject.toml; this file stays for tools that still call it."""
from setuptools import setup

setup()
