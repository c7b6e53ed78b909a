"""`python -m classifiers`: the same as `ringfence classify`, without the hub."""

from classifiers.cli import main

if __name__ == "__main__":
    main()
