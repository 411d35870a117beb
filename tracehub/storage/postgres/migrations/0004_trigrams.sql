-- For text searches over closed partitions.
create extension if not exists pg_trgm;
