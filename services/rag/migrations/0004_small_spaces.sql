-- Of a small space every chunk is compared: the lists of words that occur in all spaces are longer than it.
create index lexemes_of_a_space on lexemes (space);
