"""What tests, benchmarks and chaos share: running farms, servers, stages, and measurements of files."""
