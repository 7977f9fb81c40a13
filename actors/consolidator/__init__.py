"""The Consolidator's room: owns consolidated_models/ and folds the finished adapter in at night."""
