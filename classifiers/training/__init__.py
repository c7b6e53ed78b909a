"""How the model in `classifiers/ner` is made: text generated and read, a network, its training and its export. Needs torch and Faker.

Nothing here is imported by what runs in production.
"""
