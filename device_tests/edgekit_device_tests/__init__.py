"""Suites that run on a device: `pytest --pyargs edgekit_device_tests --edgekit-bundle FILE --edgekit-device URL`."""
