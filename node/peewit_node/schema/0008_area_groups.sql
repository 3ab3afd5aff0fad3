-- In whose order a queue is: a mediator may say another one while people wait.
CREATE TABLE area_groups (area BLOB PRIMARY KEY, grps BLOB NOT NULL);
