-- Holds the place of a step of another branch.
select 1;
