"""How the model in `classifiers/ner` is made: text generated and read, a network, its training and its export. Needs torch and Faker.

    python -m venv train && train/bin/pip install torch==2.13.0 onnx onnxruntime faker numpy
    train/bin/python -m classifiers.training.train --data DATA --out OUT --minutes 60
    train/bin/python -m classifiers.training.export --from OUT/tagger.pt --to classifiers/ner/tagger.onnx
    train/bin/python -m classifiers.training.make_evaluation        # the labelled set that `make eval` scores

DATA has a folder a corpus, as `corpora.py` names them. Nothing here is imported by what runs in production.
"""
