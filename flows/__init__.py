"""What a person runs or schedules: one flow a file, beside the build definition that it takes."""
